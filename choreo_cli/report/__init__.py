"""Looking at artefacts: what a file is, whether it is whole, what is inside, and a picture of it."""
