package source

import "github.com/dop251/goja/token"

// equal compares loosely, as code means it.
func equal(a, b value) truth {
	ua, aUnknown := a.(*unknown)
	ub, bUnknown := b.(*unknown)
	if aUnknown || bUnknown {
		// An unknown that cannot be the other.
		if ua != nil && len(ua.alts) > 0 && !bUnknown && !possible(ua, b) {
			return no
		}
		if ub != nil && len(ub.alts) > 0 && !aUnknown && !possible(ub, a) {
			return no
		}
		return maybe
	}
	if nullish(a) == yes || nullish(b) == yes {
		return truthOf(nullish(a) == nullish(b))
	}
	return truthOf(same(a, b))
}

func possible(u *unknown, v value) bool {
	for _, a := range u.alts {
		if same(a, v) {
			return true
		}
	}
	return false
}

func operate(op token.Token, a, b value) value {
	switch op { //nolint:exhaustive // no other operator matters here
	case token.EQUAL, token.STRICT_EQUAL:
		return known(equal(a, b), a, b)
	case token.NOT_EQUAL, token.STRICT_NOT_EQUAL:
		return known(negate(equal(a, b)), a, b)
	case token.PLUS:
		_, aText := a.(string)
		_, bText := b.(string)
		if aText || bText {
			s, ok := text(a)
			t, ok2 := text(b)
			if ok && ok2 {
				return s + t
			}
			return &unknown{}
		}
	case token.INSTANCEOF:
		return instanceOf(a, b)
	case token.IN:
		if o, ok := b.(*object); ok {
			if key, ok := text(a); ok && !o.open {
				_, has := o.props[key]
				return has
			}
		}
		return &unknown{}
	}
	x, ok := a.(float64)
	y, ok2 := b.(float64)
	if !ok || !ok2 {
		return &unknown{env: envOf(a)}
	}
	return arithmetic(op, x, y)
}

func known(t truth, a, b value) value {
	if t == maybe {
		if env := envOf(a); env != "" {
			return &unknown{env: env}
		}
		return &unknown{env: envOf(b)}
	}
	return t == yes
}

func instanceOf(v, of value) value {
	o, ok := v.(*object)
	c, isClass := of.(*class)
	if !ok || !isClass {
		return &unknown{}
	}
	for have := o.class; have != nil; {
		if have == c {
			return true
		}
		have, _ = have.super.(*class)
	}
	return false
}

func arithmetic(op token.Token, x, y float64) value {
	switch op { //nolint:exhaustive // no other operator matters here
	case token.PLUS:
		return x + y
	case token.MINUS:
		return x - y
	case token.MULTIPLY:
		return x * y
	case token.SLASH:
		return x / y
	case token.REMAINDER:
		if y != 0 {
			return float64(int64(x) % int64(y))
		}
	case token.EXPONENT:
		out := 1.0
		if y < 0 || y > 64 {
			return &unknown{}
		}
		for range int(y) {
			out *= x
		}
		return out
	case token.LESS:
		return x < y
	case token.LESS_OR_EQUAL:
		return x <= y
	case token.GREATER:
		return x > y
	case token.GREATER_OR_EQUAL:
		return x >= y
	}
	return &unknown{}
}
