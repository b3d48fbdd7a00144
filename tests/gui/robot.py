from qtpy.QtCore import Qt, QPoint
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication
from stacksam.plugin.widget import StacksamWidget
import numpy as np

class Robot:
    def __init__(self, qtbot, viewer):
        self.qtbot, self.viewer = qtbot, viewer
        self.dock = StacksamWidget(viewer)
        viewer.window.add_dock_widget(self.dock, name="stacksam")
        self.canvas = next(w for w in QApplication.allWidgets() if type(w).__name__ == "CanvasBackendDesktop" and w.window() is self.dock.window())

    def leave(self):
        pass
