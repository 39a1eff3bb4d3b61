"""The test suites; a package so that stories may share `tests.support`."""
