// What stands in for libtorch's CUDA half: two devices whose memory and arithmetic are the processor's. As on real ones, an
// operation on tensors of two devices is refused, but for copies and single numbers.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/impl/FakeGuardImpl.h>
#include <torch/library.h>

#include <cstdlib>
#include <cstring>

using at::Tensor;
using c10::IValue;
using Guard = c10::impl::FakeGuardImpl<c10::DeviceType::CUDA>;

C10_REGISTER_GUARD_IMPL(CUDA, Guard);

// Libtorch looks for the hooks by this name.
struct CUDAHooks : at::CUDAHooksInterface {
    explicit CUDAHooks(at::CUDAHooksArgs) {}
    void init() const override {}
    bool hasCUDA() const override { return true; }
    bool isBuilt() const override { return true; }
    bool isAvailable() const override { return true; }
    bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
    c10::DeviceIndex getCurrentDevice() const override { return Guard::getDeviceIndex(); }
    void setCurrentDevice(c10::DeviceIndex index) const override { Guard::setDeviceIndex(index); }
    const at::Generator& getDefaultGenerator(c10::DeviceIndex) const override { return at::detail::getDefaultCPUGenerator(); }
    int getNumGPUs() const override { return 2; }
    c10::DeviceIndex deviceCount() const override { return 2; }
};

namespace at {
REGISTER_CUDA_HOOKS(CUDAHooks)
}

struct Memory : c10::Allocator {
    c10::DataPtr allocate(size_t size) override {
        void* memory = std::malloc(size > 0 ? size : 1);
        return {memory, memory, &std::free, c10::Device(c10::kCUDA, Guard::getDeviceIndex())};
    }
    c10::DeleterFnPtr raw_deleter() const override { return &std::free; }
    void copy_data(void* to, const void* from, std::size_t size) const override { default_copy_data(to, from, size); }
};

static Memory memory;

struct On {
    c10::DeviceIndex before = Guard::getDeviceIndex();
    explicit On(c10::Device device) {
        if (device.has_index()) Guard::setDeviceIndex(device.index());
    }
    ~On() { Guard::setDeviceIndex(before); }
};

static const c10::DispatchKeySet KEYS(c10::DispatchKey::CUDA);

static Tensor empty_strided(at::IntArrayRef size, at::IntArrayRef stride, std::optional<at::ScalarType> kind,
                            std::optional<at::Layout>, std::optional<at::Device> device, std::optional<bool>) {
    const On on(*device);
    return at::detail::empty_strided_generic(size, stride, &memory, KEYS, kind.value_or(at::kFloat));
}

static Tensor empty(at::IntArrayRef size, std::optional<at::ScalarType> kind, std::optional<at::Layout>,
                    std::optional<at::Device> device, std::optional<bool>, std::optional<at::MemoryFormat> format) {
    const On on(*device);
    return at::detail::empty_generic(size, &memory, KEYS, kind.value_or(at::kFloat), format);
}

// The same memory, as the processor's.
static Tensor here(const Tensor& tensor) {
    if (!tensor.defined() || !tensor.is_cuda()) return tensor;
    const c10::Storage& there = tensor.storage();
    c10::DataPtr lent(there.mutable_data(), c10::Device(at::kCPU));
    c10::Storage own(c10::Storage::use_byte_size_t(), there.nbytes(), std::move(lent), at::getCPUAllocator(), true);
    Tensor same = at::empty({0}, tensor.options().device(at::kCPU));
    return same.set_(own, tensor.storage_offset(), tensor.sizes(), tensor.strides());
}

// What has become of that memory and its shape, where an operation has made more room for its result.
static void take_over(const Tensor& tensor, const Tensor& own) {
    const c10::Storage &to = tensor.storage(), &from = own.storage();
    if (from.data() != to.data()) {
        const On on(tensor.device());
        c10::DataPtr more = memory.allocate(from.nbytes());
        std::memcpy(more.get(), from.data(), from.nbytes());
        to.set_data_ptr_noswap(std::move(more));
        to.set_nbytes(from.nbytes());
    }
    tensor.unsafeGetTensorImpl()->set_sizes_and_strides(own.sizes(), own.strides(), own.storage_offset());
}

static Tensor& copy_(Tensor& self, const Tensor& from, bool) {
    here(self).copy_(here(from));
    return self;
}

static Tensor copy_from(const Tensor& from, const Tensor& to, bool) {
    here(to).copy_(here(from));
    return to;
}

// Every other operation is the processor's, on the same memory.
static void run(const c10::OperatorHandle& operation, torch::jit::Stack* stack) {
    std::optional<c10::Device> place;
    std::vector<std::pair<Tensor, Tensor>> known;
    auto bring = [&](const Tensor& tensor) {
        if (!tensor.defined() || !(tensor.is_cuda() || tensor.dim() > 0)) return tensor;
        TORCH_CHECK(!place || *place == tensor.device(), operation.schema().name(), ": tensors on ", *place, " and ",
                    tensor.device());
        place = tensor.device();
        known.emplace_back(tensor, here(tensor));
        return known.back().second;
    };
    auto bring_back = [&](const Tensor& tensor) {
        for (const auto& [there, own] : known) {
            if (own.is_same(tensor)) return there;
        }
        if (!tensor.defined() || !place || !place->is_cuda()) return tensor;
        Tensor there = empty_strided(tensor.sizes(), tensor.strides(), tensor.scalar_type(), {}, place, {});
        here(there).copy_(tensor);
        return there;
    };
    auto each = [](IValue& value, auto change) {
        if (value.isTensor()) {
            value = change(value.toTensor());
        } else if (value.isTensorList()) {
            auto list = value.toTensorVector();
            for (Tensor& tensor : list) tensor = change(tensor);
            value = list;
        } else if (value.isOptionalTensorList()) {
            c10::List<std::optional<Tensor>> changed;
            for (const std::optional<Tensor>& tensor : value.toOptionalTensorList()) {
                changed.push_back(tensor ? std::optional<Tensor>(change(*tensor)) : std::nullopt);
            }
            value = changed;
        }
    };
    const size_t arguments = operation.schema().arguments().size(), results = operation.schema().returns().size();
    for (size_t at = stack->size() - arguments; at < stack->size(); ++at) {
        IValue& value = (*stack)[at];
        if (value.isDevice() && value.toDevice().is_cuda()) {
            place = value.toDevice();
            value = c10::Device(at::kCPU);
        } else {
            each(value, bring);
        }
    }
    operation.callBoxed(stack);
    for (const auto& [there, own] : known) {
        if (there.is_cuda()) take_over(there, own);
    }
    for (size_t at = stack->size() - results; at < stack->size(); ++at) each((*stack)[at], bring_back);
}

TORCH_LIBRARY_IMPL(_, CUDA, library) {
    library.fallback(torch::CppFunction::makeFromBoxedFunction<&run>());
}

TORCH_LIBRARY_IMPL(aten, CUDA, library) {
    library.impl("empty.memory_format", &empty);
    library.impl("empty_strided", &empty_strided);
    library.impl("copy_", &copy_);
    library.impl("_copy_from", &copy_from);
    library.impl("as_strided", &at::native::as_strided_tensorimpl);
    library.impl("view", static_cast<Tensor (*)(const Tensor&, at::IntArrayRef)>(&at::native::view));
    library.impl("_reshape_alias", &at::native::_reshape_alias);
    library.impl("scaled_dot_product_attention", torch::CppFunction::makeFromBoxedFunction<&run>());
}
