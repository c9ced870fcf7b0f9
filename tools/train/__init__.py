"""``trackvae train``: from flags to a plan, the run itself, its folder."""
