"""Common corruptions: noise, blur, weather and what is done to files; images in, images out, no model."""
