package aptmethod

import (
	"slices"
	"strings"
	"unicode"
)

func isRedirect(code int) bool {
	return slices.Contains([]int{301, 302, 303, 307, 308}, code)
}

// redirect works out where apt has to go next.
func (m *Method) redirect(it *item, location string) (string, *trouble) {
	next, t := m.target(it, location)
	if t == nil && strings.ContainsFunc(next, unicode.IsControl) {
		t = permanent("SECURITY: URL redirect target contains control characters, rejecting.")
	}
	return next, t
}

func (m *Method) target(it *item, location string) (string, *trouble) {
	if strings.Contains(location, " ") {
		location = quote(location, "")
	}
	binary := m.Name
	if !strings.Contains(binary, "+") && binary != "http" && binary != "https" {
		binary += "+http"
	}
	base, _, prefixed := strings.Cut(binary, "+")
	if strings.HasPrefix(location, "/") && !strings.HasPrefix(location, "//") {
		if !m.encoded {
			location = unquote(location)
		}
		next := it.at.site() + location
		if it.at.user != "" || it.at.password != "" {
			scheme, rest, _ := strings.Cut(next, "://")
			next = scheme + "://" + quote(it.at.user, ":@/") + ":" + quote(it.at.password, ":@/") + "@" + rest
		}
		if next == it.uri {
			return "", permanent("Redirection loop encountered").with("RedirectionLoop")
		}
		return next, nil
	}
	to, err := parseURI(location)
	if err != nil {
		return "", permanent("Redirection from %s to '%s' is forbidden", it.at.scheme, location)
	}
	if strings.Contains(to.scheme, "+") {
		return "", permanent("Server tried to trick us into using a specific implementation: %s", to.scheme)
	}
	next := location
	if !m.encoded {
		next = unquote(location)
	}
	ours := to.scheme
	if prefixed && base != to.scheme {
		ours = base + "+" + to.scheme
		_, rest, _ := strings.Cut(next, "://")
		if next = ours + "://" + rest; ours == binary {
			next = it.at.scheme + "://" + rest
		}
	}
	if next == it.uri {
		return "", permanent("Redirection loop encountered").with("RedirectionLoop")
	}
	switch {
	case to.scheme != "http" && to.scheme != "https":
	case ours == binary, to.scheme == "https", it.at.wire() == "http":
		return next, nil
	}
	return "", permanent("Redirection from %s to '%s' is forbidden", it.at.scheme, next)
}
