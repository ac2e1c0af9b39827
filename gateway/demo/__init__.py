"""A chat to try the gateway with: samples made by real encoders, and the page that shows them."""
