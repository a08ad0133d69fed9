mod answers;
mod backend;
mod kept;
mod lanes;
mod names;
mod waits;
