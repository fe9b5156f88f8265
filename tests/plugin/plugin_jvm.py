"""The plugin and its Java test helpers in a JVM of this process."""

import jpype
from plugin_classes import MAIN, TEST, compile_plugin, server_jar


def start(classes):
    """Compiles into a folder, starts the JVM, and returns the Java package.

    Raises:
        FileNotFoundError: There is no JDK on PATH nor at JAVA_HOME.
        subprocess.CalledProcessError: The sources do not compile without a warning.
    """
    compile_plugin(classes, MAIN, TEST)
    jpype.startJVM(classpath=[str(classes), str(server_jar())], convertStrings=True)
    return jpype.JPackage("org").approxifer.torchserve
