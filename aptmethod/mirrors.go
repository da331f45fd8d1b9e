package aptmethod

type neighbors struct{}

func (n *neighbors) load(*Config) {}
