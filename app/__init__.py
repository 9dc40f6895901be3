"""The Streamlit app: images in, labels, confidences and heat maps out. Imports neither torch nor trainer."""

from app.environment import prepare

prepare()  # every other module of the app, and the libraries that it brings, are imported after this
