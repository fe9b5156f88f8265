"""Lightning callbacks that measure what a code costs while a model trains."""
