"""The Streamlit app: images in, labels, confidences and heat maps out. Imports neither torch nor trainer."""
