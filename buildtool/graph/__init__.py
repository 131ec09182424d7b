"""Instructions to a networkx DAG of steps. Pure."""
