"""Everything before the first token: templates, families, the plan of a request. Pure."""
