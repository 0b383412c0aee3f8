"""Virtual time: hardware profiles, costs, links, and the discrete-event machine that runs programs. No torch."""
