"""The session: prompts, objects and results of one stack, and the predictor that answers; no Qt."""
