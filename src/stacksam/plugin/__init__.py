"""The napari plugin; the only folder that imports napari, qtpy or magicgui."""
