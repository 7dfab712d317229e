"""Where the clients of a federation work: in this process, on Ray, or on SuperNodes."""
