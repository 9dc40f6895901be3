"""The page: Streamlit's script, what a visit holds, and its limits."""
