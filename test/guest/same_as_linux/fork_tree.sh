/test/fork_tree 3 3 64 && /test/fork_tree 1 8 512
# Each page below tables of its own, at three levels.
/test/fork_tree 3 3 24 262657
