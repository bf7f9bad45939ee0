"""From Hydra's config tree to typed settings, with errors that name the key."""
