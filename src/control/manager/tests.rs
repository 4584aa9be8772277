//! The manager with workers that a test plays itself.
