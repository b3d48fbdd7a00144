import numpy as np
from qtpy.QtCore import Qt, QPoint, QPointF
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication
from stacksam.plugin.contributions import sample_timelapse

def test_it(robot, qtbot):
    v = robot.viewer
    for d,k,t in sample_timelapse(): v.add_image(d,**k)
    qtbot.waitUntil(lambda: robot.dock.image_part.start.isEnabled())
    QTest.mouseClick(robot.dock.image_part.start, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: robot.dock.layers is not None, timeout=30000)
    print(v.scene.camera.center, v.scene.camera.zoom, robot.canvas.size(), robot.canvas.window().windowHandle(), robot.canvas.windowHandle())
    got=[]
    def say(layer, event):
        got.append((event.type, tuple(event.position), QApplication.mouseButtons()))
        yield
        while event.type=='mouse_move':
            got.append((event.type, tuple(event.position), QApplication.mouseButtons()))
            yield
        got.append((event.type, tuple(event.position), QApplication.mouseButtons()))
    v.mouse_drag_callbacks.append(say)
    c=robot.canvas
    top=c.window().windowHandle()
    def at(y,x):
        w=v.layers[0].data_to_world((0,y,x))[1:]
        p=(np.array(w)-v.scene.camera.center[1:])*v.scene.camera.zoom
        return QPoint(round(c.width()/2+p[1]), round(c.height()/2+p[0]))
    # widget level
    QTest.mousePress(c, Qt.MouseButton.LeftButton, pos=at(50,60))
    QTest.mouseMove(c, at(60,70)); 
    QTest.mouseRelease(c, Qt.MouseButton.LeftButton, pos=at(60,70))
    print(got); got.clear()
    def m(p): return c.mapTo(c.window(), p)
    QTest.mousePress(top, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, m(at(150,60)))
    print(QApplication.mouseButtons(), QApplication.widgetAt(c.mapToGlobal(at(150,60))), c.window().childAt(m(at(150,60))))
    for i in range(10): QTest.mouseMove(top, m(at(150,60+i)))
    QTest.mouseRelease(top, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, m(at(160,70)))
    print(got)
    qtbot.wait(1000)
    print(robot.dock.controller.state.prompts)
    QTest.keyClick(c, Qt.Key.Key_N)
    print(robot.dock.controller.current, QApplication.focusWidget(), QApplication.activeWindow())
    QTest.keyClick(top, Qt.Key.Key_T)
    qtbot.wait(100)
    print(robot.dock.controller.positive)
    v.screenshot("/tmp/p/F/p.png", canvas_only=False, flash=False)
