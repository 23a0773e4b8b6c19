"""The table of recipes: name, module that holds it, and one line of help. Nothing is imported here."""

from __future__ import annotations

RECIPES: dict[str, tuple[str, str]] = {
    "rps": ("choreo_cli.reflex.rps_recipe_torch", "M1: frames to 104 latents, four blocks that predict each other"),
    "mapper": ("choreo_cli.reflex.mapper_recipe_torch", "M3: latents to five controls, by rule or by example"),
    "lookahead": ("choreo_cli.reflex.lookahead_recipe_torch", "M4: the latents of the next bar"),
    "gesture": ("choreo_cli.reflex.gesture_recipe_torch", "M5: gestures and their onsets"),
    "video": (
        "choreo_cli.trajectory.video_recipe_torch",
        "a branch of the trajectory lab: videos to forecast",
    ),
    "reward": ("choreo_cli.reflex.reward_recipe_torch", "M6: which of two clips a rater prefers"),
    "flow": ("choreo_cli.generate.flow_recipe_torch", "dances from music by flow matching, 1 to 10 steps"),
    "ddim": ("choreo_cli.generate.ddim_recipe_torch", "dances from music by diffusion, 50 steps: flow's baseline"),
    "lifting": ("choreo_cli.motion.lifting_recipe_torch", "2-D points of a body to its joints in space"),
}

# What other commands than `choreo train` make: their runs are judged by these modules.
OTHERS = {"distilled": "choreo_cli.generate.distill_recipe_torch"}


def module_of(name: str) -> str:
    """Import path of a recipe's module. Raises KeyError for an unknown name."""
    return OTHERS[name] if name in OTHERS else RECIPES[name][0]
