//! Whether what is stored is what the objects hold, and what is missing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod gaps;
mod id_sets;
mod planted;
mod planted_fixture;
mod quality_fixture;
mod slices;
mod verify;
mod work;
mod work_fixture;
mod years;
