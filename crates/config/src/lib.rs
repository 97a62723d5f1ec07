//! Configuration files, as descriptions of apps.
