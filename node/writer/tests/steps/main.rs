//! A writer step by step: of one stream mostly.

mod differing_lines;
mod first_start;
mod membership;
mod takeovers;
mod usual;
