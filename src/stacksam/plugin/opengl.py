"""A way around a fault of the drawing library, which ends the program where layers come and go."""

from __future__ import annotations

from qtpy.QtOpenGLWidgets import QOpenGLWidget
from qtpy.QtWidgets import QApplication
from vispy.gloo import gl

__all__ = ["switch_off_vertex_arrays"]


def switch_off_vertex_arrays() -> None:
    """Switch off what drawing has left on; to be called when layers were removed, before the next drawing.

    Vispy leaves the vertex arrays of a Points or Shapes layer switched on. When the layer is gone, so are
    their buffers, and the next layer that is new makes the driver read where nothing is (napari issues 8471,
    8165). What is drawn switches on what it needs by itself.
    """
    for widget in QApplication.allWidgets():
        if isinstance(widget, QOpenGLWidget) and widget.isValid():
            widget.makeCurrent()
            for number in range(int(gl.glGetParameter(gl.GL_MAX_VERTEX_ATTRIBS))):
                gl.glDisableVertexAttribArray(number)
            widget.doneCurrent()
