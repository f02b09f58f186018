"""`selfreg prm`: use of a run's trained PRM, one file a command."""
