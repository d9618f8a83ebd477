//! Operating the extension: doctor(), roles and settings, install, dump, upgrade, the SQL contract.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod doctor;
mod documents;
mod hostile_settings;
mod lifecycle;
mod privileges;
mod schema;
