"""Where models come from: folders, hub ids, and the zoo of real models on the package index."""
