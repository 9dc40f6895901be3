"""The model in use: checked, loaded, queued for, followed in the registry and watched."""
