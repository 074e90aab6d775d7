//! What people read: tables and descriptions as kubectl prints them (reference section 10).
//!
//! PURE: every function goes from API objects and the present time to text.

pub mod age;
pub mod columns;
pub mod describe;
pub mod events;
pub mod field;
pub mod objects;
pub mod pod;
pub mod table;
