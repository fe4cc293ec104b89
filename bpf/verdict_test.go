package bpf

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// The helpers that the program may call, and nothing else. None of them
// writes to a packet, redirects it, or waits.
var allowedHelpers = []asm.BuiltinFunc{
	asm.FnMapLookupElem,
	asm.FnKtimeGetNs,
	asm.FnSkbLoadBytes,
	asm.FnRingbufReserve,
	asm.FnRingbufSubmit,
	asm.FnRingbufDiscard,
	asm.FnRingbufQuery,
}

// TestVerdict proves from the instructions that the program cannot do
// anything to the packet: the entry is `work(skb); return TCX_NEXT;`, nothing is stored
// through the context or into the packet, and only the helpers above are called.
func TestVerdict(t *testing.T) {
	if err := harmless(programInstructions(t)); err != nil {
		t.Error(err)
	}
}

func programInstructions(t *testing.T) asm.Instructions {
	t.Helper()
	spec, err := loadTap()
	if err != nil {
		t.Fatal(err)
	}
	if len(spec.Programs) != 1 {
		t.Fatalf("%d programs in the object, want 1", len(spec.Programs))
	}
	prog := spec.Programs[tapProgShadowtap]
	if prog.Type != ebpf.SchedCLS {
		t.Fatalf("program type is %s, want SchedCLS", prog.Type)
	}
	return prog.Instructions
}

// TestVerdictCatches breaks the program in each way that harmless is there
// for, so that TestVerdict can fail.
func TestVerdictCatches(t *testing.T) {
	insert := func(at string, ins ...asm.Instruction) func(asm.Instructions) asm.Instructions {
		return func(all asm.Instructions) asm.Instructions {
			for i := range all {
				if all[i].Symbol() == at {
					ins[0] = ins[0].WithSymbol(at)
					all[i] = all[i].WithSymbol("")
					return slices.Insert(all, i, ins...)
				}
			}
			t.Fatalf("no function %s", at)
			return nil
		}
	}
	for want, change := range map[string]func(asm.Instructions) asm.Instructions{
		"returns 0": func(all asm.Instructions) asm.Instructions {
			all[1].Constant = 0
			return all
		},
		"entry is":                  insert("shadowtap", asm.Mov.Imm(asm.R2, 1)),
		"tail_call":                 insert("work", asm.Instruction{OpCode: asm.FnTailCall.Call().OpCode, Constant: int64(asm.FnTailCall)}),
		"skb_pull_data":             insert("work", asm.FnSkbPullData.Call()),
		"store through the context": insert("work", asm.StoreImm(asm.R1, 8, 1, asm.Word)),
		"store through the context, moved and spilled": insert("work",
			asm.Mov.Reg(asm.R6, asm.R1),
			asm.StoreMem(asm.R10, -504, asm.R6, asm.DWord),
			asm.Mov.Imm(asm.R6, 0),
			asm.LoadMem(asm.R7, asm.R10, -504, asm.DWord),
			asm.StoreMem(asm.R7, 8, asm.R6, asm.Word)),
		"store into the packet": insert("work",
			asm.LoadMem(asm.R2, asm.R1, 76, asm.Word),
			asm.Add.Imm(asm.R2, 14),
			asm.StoreImm(asm.R2, 0, 1, asm.Byte)),
		"store into the packet, atomic": insert("work",
			asm.LoadMem(asm.R2, asm.R1, 76, asm.Word),
			asm.AddAtomic.Mem(asm.R2, asm.R3, asm.DWord, 0)),
		"store into the packet, helper": insert("work",
			asm.LoadMem(asm.R3, asm.R1, 76, asm.Word),
			asm.FnSkbLoadBytes.Call()),
		"kernel function": insert("work", asm.Instruction{OpCode: asm.FnMapLookupElem.Call().OpCode, Src: asm.PseudoKfuncCall, Constant: 1}),
		"calls a function": func(all asm.Instructions) asm.Instructions {
			return insert("work", all[0])(all)
		},
	} {
		err := harmless(change(slices.Clone(programInstructions(t))))
		if word, _, _ := strings.Cut(want, ","); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// What a register or stack slot may hold.
const (
	holdsContext = 1 << iota
	holdsPacket
	holdsStack // an address in the stack that is not r10 itself
)

type machine struct {
	reg   [11]uint8
	stack map[int16]uint8 // by offset of an 8-byte slot
}

func (m machine) clone() machine {
	c := machine{reg: m.reg, stack: make(map[int16]uint8, len(m.stack))}
	for k, v := range m.stack {
		c.stack[k] = v
	}
	return c
}

// join adds what o may hold and says whether that was new.
func (m *machine) join(o machine) (changed bool) {
	for i, v := range o.reg {
		changed = changed || m.reg[i]|v != m.reg[i]
		m.reg[i] |= v
	}
	for k, v := range o.stack {
		changed = changed || m.stack[k]|v != m.stack[k]
		m.stack[k] |= v
	}
	return changed
}

func (m *machine) anySlot() (v uint8) {
	for _, s := range m.stack {
		v |= s
	}
	return v
}

// harmless walks all instructions. Where it cannot tell what a register
// holds it takes the worst.
func harmless(all asm.Instructions) error {
	// The entry: three instructions, so one exit and one verdict.
	if len(all) < 4 || all[0].Symbol() != "shadowtap" || !all[0].IsFunctionCall() || all[0].Reference() != "work" ||
		all[1].OpCode != asm.Mov.Op32(asm.ImmSource) && all[1].OpCode != asm.Mov.Op(asm.ImmSource) || all[1].Dst != asm.R0 ||
		all[2].OpCode.JumpOp() != asm.Exit || all[2].OpCode.Class() != asm.JumpClass || all[3].Symbol() != "work" {
		return fmt.Errorf("entry is not `work(skb); return TCX_NEXT;`:\n%v", all[:min(4, len(all))])
	}
	if all[1].Constant != -1 {
		return fmt.Errorf("entry returns %d, want TCX_NEXT (-1)", all[1].Constant)
	}
	work := all[3:]
	index := map[asm.RawInstructionOffset]int{}
	offsets := make([]asm.RawInstructionOffset, len(work))
	for it := work.Iterate(); it.Next(); {
		if it.Index > 0 && it.Ins.Symbol() != "" {
			return fmt.Errorf("one more function: %s", it.Ins.Symbol())
		}
		index[it.Offset] = it.Index
		offsets[it.Index] = it.Offset
	}
	states := make([]*machine, len(work))
	start := machine{stack: map[int16]uint8{}}
	start.reg[asm.R1] = holdsContext
	start.reg[asm.R10] = holdsStack
	states[0] = &start
	for todo := []int{0}; len(todo) > 0; {
		i := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		ins := work[i]
		m := states[i].clone()
		if err := step(&m, ins); err != nil {
			return fmt.Errorf("instruction %d: %v: %w", i, ins, err)
		}
		var next []int
		op := ins.OpCode
		jump := op.Class().IsJump()
		if !jump || op.JumpOp() != asm.Exit && op.JumpOp() != asm.Ja {
			next = append(next, i+1)
		}
		if jump && op.JumpOp() != asm.Exit && op.JumpOp() != asm.Call {
			to, ok := index[offsets[i]+1+asm.RawInstructionOffset(ins.Offset)]
			if ins.Offset < 0 {
				to, ok = index[offsets[i]+1-asm.RawInstructionOffset(-int(ins.Offset))]
			}
			if !ok {
				return fmt.Errorf("instruction %d: %v: jumps out of the function", i, ins)
			}
			next = append(next, to)
		}
		for _, n := range next {
			if n >= len(work) {
				return fmt.Errorf("instruction %d: %v: runs out of the function", i, ins)
			}
			if states[n] == nil {
				c := m.clone()
				states[n] = &c
				todo = append(todo, n)
			} else if states[n].join(m) {
				todo = append(todo, n)
			}
		}
	}
	return nil
}

// step is what one instruction does to m, or why it must not be there.
func step(m *machine, ins asm.Instruction) error {
	op := ins.OpCode
	store := func() error {
		switch held := m.reg[ins.Dst]; {
		case held&holdsContext != 0:
			return fmt.Errorf("store through the context")
		case held&holdsPacket != 0:
			return fmt.Errorf("store into the packet")
		}
		return nil
	}
	switch class := op.Class(); class {
	case asm.ALUClass, asm.ALU64Class:
		switch {
		case op.ALUOp() == asm.Mov && op.Source() == asm.RegSource:
			m.reg[ins.Dst] = m.reg[ins.Src]
		case op.ALUOp() == asm.Mov:
			m.reg[ins.Dst] = 0
		case op.ALUOp() == asm.Swap:
		case op.Source() == asm.RegSource:
			m.reg[ins.Dst] |= m.reg[ins.Src]
		}
	case asm.LdClass:
		if op.Mode() != asm.ImmMode {
			return fmt.Errorf("load of a mode that is not known here")
		}
		m.reg[ins.Dst] = 0
	case asm.LdXClass:
		switch from := m.reg[ins.Src]; {
		case ins.Src == asm.R10:
			m.reg[ins.Dst] = m.stack[ins.Offset&^7]
		case from&holdsStack != 0:
			m.reg[ins.Dst] = m.anySlot()
		case from&holdsContext != 0 && (ins.Offset == 76 || ins.Offset == 80 || ins.Offset == 140):
			m.reg[ins.Dst] = holdsPacket // data, data_end, data_meta
		default:
			m.reg[ins.Dst] = 0
		}
	case asm.StClass, asm.StXClass:
		if err := store(); err != nil {
			return err
		}
		var held uint8
		if class == asm.StXClass {
			held = m.reg[ins.Src]
		}
		switch {
		case ins.Dst == asm.R10 && op.Size() == asm.DWord:
			m.stack[ins.Offset&^7] = held
		case ins.Dst == asm.R10:
			m.stack[ins.Offset&^7] |= held
		case held&(holdsContext|holdsPacket) != 0:
			return fmt.Errorf("a pointer is stored where it is not followed")
		}
	case asm.JumpClass, asm.Jump32Class:
		if op.JumpOp() != asm.Call {
			return nil
		}
		if ins.IsKfuncCall() {
			return fmt.Errorf("calls a kernel function")
		}
		if ins.IsFunctionCall() {
			return fmt.Errorf("calls a function")
		}
		helper := asm.BuiltinFunc(ins.Constant)
		if !slices.Contains(allowedHelpers, helper) {
			return fmt.Errorf("calls a helper that is not on the list: %s", helperName(helper))
		}
		if helper == asm.FnSkbLoadBytes && m.reg[asm.R3]&(holdsContext|holdsPacket) != 0 {
			return fmt.Errorf("store into the packet")
		}
		for r := asm.R0; r <= asm.R5; r++ {
			m.reg[r] = 0
		}
	}
	return nil
}

func helperName(f asm.BuiltinFunc) string {
	switch f {
	case asm.FnTailCall:
		return "tail_call"
	case asm.FnSkbPullData:
		return "skb_pull_data"
	}
	return f.String()
}
