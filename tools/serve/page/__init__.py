"""The page for people that `mochi-serve --ui` has, made with Gradio, over the queue that the API has."""
