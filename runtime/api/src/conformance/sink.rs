//! What every sink must do.
