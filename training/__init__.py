"""How the model is learned: schedules, trainer, data sets, state-space models, geodesics."""
