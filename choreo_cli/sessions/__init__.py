"""Sessions: which music a recording belongs to, and when: clocks, pairing, synthesis."""
