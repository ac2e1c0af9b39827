"""How media comes in, changes and goes: webhooks, the provider's client, durable jobs."""
