mod answers;
mod backend;
mod crowds;
mod kept;
mod lanes;
mod names;
mod waits;
