"""Dances from music: a small transformer, flow matching and diffusion, tasks by mask, sampling."""
