"""The bridge to napari: layers become frozen requests, answers become painted layers. No Qt, no torch."""
