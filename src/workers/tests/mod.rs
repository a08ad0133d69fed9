mod answers;
mod backend;
mod crowds;
mod growth;
mod kept;
mod lanes;
mod names;
mod waits;
