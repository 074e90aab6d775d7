//! Against the real kernel, each test in namespaces of its own: the test program calls itself there, with one
//! thread, makes containers below `/mnt`, and looks at them from inside.

mod attacks;
mod cost;
mod golden;
mod real;
mod world;
