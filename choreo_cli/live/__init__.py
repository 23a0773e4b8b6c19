"""Body in, music out, in real time: sources, the loop, guards, transport, ports, recording."""
