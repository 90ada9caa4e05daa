//! Redis is down, slow, full, read-only or locked: what is acknowledged is stored, and nobody is cut off.
