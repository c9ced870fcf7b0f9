"""Deep state-space models behind one interface (thesis, chapter 4)."""
