"""Several processes behind one address: the main one hands websockets to workers."""
