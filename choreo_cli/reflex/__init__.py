"""From frames to latents, controls and their optional companions."""
