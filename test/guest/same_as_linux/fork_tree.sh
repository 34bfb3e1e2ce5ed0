/test/fork_tree 3 3 64 && /test/fork_tree 1 8 512
