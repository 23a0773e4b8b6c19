"""Sound: decode, features on a 43 fps grid, tempo and beats, the two audio inputs of the model."""
