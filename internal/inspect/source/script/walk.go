package script

import "github.com/dop251/goja/ast"

// Walk calls visit for a node and, where it returns true, for everything below it, in the order of
// the text. A nil node is skipped.
func Walk(n ast.Node, visit func(ast.Node) bool) {
	w := walker{visit}
	w.node(n)
}

type walker struct{ visit func(ast.Node) bool }

// node is where typed nils that hide in interfaces are stopped.
func (w walker) node(n ast.Node) {
	if empty(n) || !w.visit(n) {
		return
	}
	switch n := n.(type) {
	case *ast.Program:
		w.statements(n.Body)
	case ast.Statement:
		w.statement(n)
	case ast.ClassElement:
		w.element(n)
	case *ast.ForLoopInitializerExpression:
		w.node(n.Expression)
	case *ast.ForLoopInitializerVarDeclList:
		w.bindings(n.List)
	case *ast.ForLoopInitializerLexicalDecl:
		w.bindings(n.LexicalDeclaration.List)
	case *ast.ForIntoVar:
		w.node(n.Binding)
	case *ast.ForDeclaration:
		w.node(n.Target)
	case *ast.ForIntoExpression:
		w.node(n.Expression)
	case *ast.ExpressionBody:
		w.node(n.Expression)
	case *ast.ParameterList:
		w.bindings(n.List)
		w.node(n.Rest)
	case ast.Expression:
		w.expression(n)
	}
}

func empty(n ast.Node) bool {
	switch n := n.(type) {
	case nil:
		return true
	case *ast.BlockStatement:
		return n == nil
	case *ast.Identifier:
		return n == nil
	case *ast.ParameterList:
		return n == nil
	case *ast.CatchStatement:
		return n == nil
	case *ast.FunctionLiteral:
		return n == nil
	case *ast.TemplateLiteral:
		return n == nil
	}
	return false
}

func (w walker) statements(list []ast.Statement) {
	for _, s := range list {
		w.node(s)
	}
}

func (w walker) bindings(list []*ast.Binding) {
	for _, b := range list {
		w.node(b)
	}
}

func (w walker) expressions(list []ast.Expression) {
	for _, e := range list {
		w.node(e)
	}
}

func (w walker) statement(n ast.Statement) {
	switch n := n.(type) {
	case *ast.BlockStatement:
		w.statements(n.List)
	case *ast.CaseStatement:
		w.node(n.Test)
		w.statements(n.Consequent)
	case *ast.CatchStatement:
		w.node(n.Parameter)
		w.node(n.Body)
	case *ast.DoWhileStatement:
		w.node(n.Body)
		w.node(n.Test)
	case *ast.ExpressionStatement:
		w.node(n.Expression)
	case *ast.ForInStatement:
		w.node(n.Into)
		w.node(n.Source)
		w.node(n.Body)
	case *ast.ForOfStatement:
		w.node(n.Into)
		w.node(n.Source)
		w.node(n.Body)
	case *ast.ForStatement:
		w.node(n.Initializer)
		w.node(n.Test)
		w.node(n.Update)
		w.node(n.Body)
	case *ast.IfStatement:
		w.node(n.Test)
		w.node(n.Consequent)
		w.node(n.Alternate)
	case *ast.LabelledStatement:
		w.node(n.Statement)
	case *ast.ReturnStatement:
		w.node(n.Argument)
	case *ast.SwitchStatement:
		w.node(n.Discriminant)
		for _, c := range n.Body {
			w.node(c)
		}
	case *ast.ThrowStatement:
		w.node(n.Argument)
	case *ast.TryStatement:
		w.node(n.Body)
		w.node(n.Catch)
		w.node(n.Finally)
	case *ast.VariableStatement:
		w.bindings(n.List)
	case *ast.LexicalDeclaration:
		w.bindings(n.List)
	case *ast.WhileStatement:
		w.node(n.Test)
		w.node(n.Body)
	case *ast.WithStatement:
		w.node(n.Object)
		w.node(n.Body)
	case *ast.FunctionDeclaration:
		w.node(n.Function)
	case *ast.ClassDeclaration:
		w.node(n.Class)
	}
}

func (w walker) element(n ast.ClassElement) {
	switch n := n.(type) {
	case *ast.FieldDefinition:
		w.node(n.Key)
		w.node(n.Initializer)
	case *ast.MethodDefinition:
		w.node(n.Key)
		w.node(n.Body)
	case *ast.ClassStaticBlock:
		w.node(n.Block)
	}
}

func (w walker) expression(n ast.Expression) {
	switch n := n.(type) {
	case *ast.Binding:
		w.node(n.Target)
		w.node(n.Initializer)
	case *ast.YieldExpression:
		w.node(n.Argument)
	case *ast.AwaitExpression:
		w.node(n.Argument)
	case *ast.ArrayLiteral:
		w.expressions(n.Value)
	case *ast.ArrayPattern:
		w.expressions(n.Elements)
		w.node(n.Rest)
	case *ast.AssignExpression:
		w.node(n.Left)
		w.node(n.Right)
	case *ast.BinaryExpression:
		w.node(n.Left)
		w.node(n.Right)
	case *ast.BracketExpression:
		w.node(n.Left)
		w.node(n.Member)
	case *ast.CallExpression:
		w.node(n.Callee)
		w.expressions(n.ArgumentList)
	case *ast.ConditionalExpression:
		w.node(n.Test)
		w.node(n.Consequent)
		w.node(n.Alternate)
	case *ast.DotExpression:
		w.node(n.Left)
	case *ast.PrivateDotExpression:
		w.node(n.Left)
	case *ast.OptionalChain:
		w.node(n.Expression)
	case *ast.Optional:
		w.node(n.Expression)
	case *ast.FunctionLiteral:
		w.node(n.ParameterList)
		w.node(n.Body)
	case *ast.ArrowFunctionLiteral:
		w.node(n.ParameterList)
		w.node(n.Body)
	case *ast.ClassLiteral:
		w.node(n.SuperClass)
		for _, e := range n.Body {
			w.node(e)
		}
	case *ast.NewExpression:
		w.node(n.Callee)
		w.expressions(n.ArgumentList)
	case *ast.ObjectLiteral:
		w.properties(n.Value)
	case *ast.ObjectPattern:
		w.properties(n.Properties)
		w.node(n.Rest)
	case *ast.PropertyShort:
		w.node(n.Initializer)
	case *ast.PropertyKeyed:
		w.node(n.Key)
		w.node(n.Value)
	case *ast.SpreadElement:
		w.node(n.Expression)
	case *ast.SequenceExpression:
		w.expressions(n.Sequence)
	case *ast.TemplateLiteral:
		w.node(n.Tag)
		w.expressions(n.Expressions)
	case *ast.UnaryExpression:
		w.node(n.Operand)
	}
}

func (w walker) properties(list []ast.Property) {
	for _, p := range list {
		w.node(p)
	}
}
