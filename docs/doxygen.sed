s/^namespace mistral(.*)::inline [A-Z_]+/namespace mistral\1/
s/^namespace mistral::inline [A-Z_]+::/namespace mistral::/
