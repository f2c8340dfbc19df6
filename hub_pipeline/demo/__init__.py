"""A made-up company with a known truth, served over real HTTP by stand-ins for HubSpot and Intercom."""
